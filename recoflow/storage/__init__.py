"""Where data lies: the lake, the warehouse, single files, the mailbox and its ledger. Knows contracts only."""
