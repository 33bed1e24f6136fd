"""``python -m demo``, from a checkout."""

from demo.command import demo

if __name__ == "__main__":
    demo(prog_name="python -m demo")
