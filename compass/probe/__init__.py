"""Real training steps in a process of their own, and the ledger of what they found."""
