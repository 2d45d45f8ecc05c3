"""What a meta-iteration costs here and in PyTorch, the same work side by side: one table.

    pip install "metarl-jax[peers]"
    python benchmarks/peers.py
    python benchmarks/peers.py --cases promp_corner --peer my_module:make_update

The PyTorch loop is benchmarks/torch_maml.py. Both are bound to one core; rounds alternate, so that a machine that
others use as well slows both.
Results go to benchmarks/results/peers.{json,md}; cases measured before are kept unless they are measured again.
"""

import argparse
from functools import partial

from metarl_jax.runs.startup import set_up
from metarl_jax.studies.peers import CASES, PEER, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=5, help="meta-iterations of each, after one that is not counted")
    parser.add_argument("--peer", default=PEER, help="MODULE:FACTORY of another loop; see metarl_jax.studies.peers")
    set_up(None)
    study(**vars(parser.parse_args()), report=partial(print, flush=True))


if __name__ == "__main__":
    main()
