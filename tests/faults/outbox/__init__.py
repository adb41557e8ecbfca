"""Random faults of everybody who has to do with an outbox, and whether its promise held: ``python -m tests.faults.outbox``."""
