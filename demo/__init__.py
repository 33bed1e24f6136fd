"""``make demo``: a real server, real faults, and one policy that recovers from all of them."""
