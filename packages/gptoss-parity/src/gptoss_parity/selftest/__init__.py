"""The self-test: faults put into an implementation one at a time, each of which comparing must find where it is."""

from gptoss_parity.selftest.faults import FAULTS, Fault, selftest_checkpoint
from gptoss_parity.selftest.running import FaultResult, SelfTest, run_selftest

__all__ = ["FAULTS", "Fault", "FaultResult", "SelfTest", "run_selftest", "selftest_checkpoint"]
