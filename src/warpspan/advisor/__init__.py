"""What held inferences back: pure functions from records to a ledger and to verdicts.

No torch, no OpenTelemetry and no clock: live records, files and profiler traces give the same
observation, and the same observation gives the same verdict.
"""
