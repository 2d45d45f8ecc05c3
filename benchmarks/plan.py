"""Every method on one task family, every family with ProMP and every memory, planned for hardware that is not here.

    pip install libtpu
    pip install --no-deps jax-cuda13-plugin==VERSION jax-cuda13-pjrt==VERSION  # of jax's own version; no GPU is needed
    python benchmarks/plan.py --targets h100
    python benchmarks/plan.py --here
    python benchmarks/plan.py --remat

Results go to benchmarks/results/plan.{json,md}. What they have is not planned again without --again, so that a study
that was interrupted goes on. With --here, runs on this machine are measured: benchmarks/results/plan_here.{json,md}.
With --remat, what recomputing the inner steps saves is planned for an H100: benchmarks/results/plan_remat.{json,md}.
"""

import argparse

from metarl_jax.plan.targets import NAMES, stay_on_cpu
from metarl_jax.studies import plan_here, plan_remat
from metarl_jax.studies.plan import CASES, TARGETS, page, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(NAMES))
    parser.add_argument("--again", action="store_true", help="plan also what the results have")
    instead = parser.add_mutually_exclusive_group()  # neither takes cases or targets: it has its own
    instead.add_argument(
        "--here", action="store_true", help="train here what is planned for cpu, and compare the memory"
    )
    instead.add_argument(
        "--remat", action="store_true", help="plan ever more inner steps, stored and recomputed, and compare the memory"
    )
    options = vars(parser.parse_args())
    here, remat = options.pop("here"), options.pop("remat")
    if here:
        print(plan_here.page("plan_here", plan_here.study()))
        return
    stay_on_cpu()
    if remat:
        print(plan_remat.page("plan_remat", plan_remat.study(again=options["again"])))
    else:
        print(page("plan", study(**options)))


if __name__ == "__main__":
    main()
