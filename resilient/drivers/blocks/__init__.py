"""The block form, ``for attempt in policy:`` ``with attempt:``: its attempts, and the layers that each passes."""
