"""Files over SFTP: the mailbox, its ledger, and the protocol."""
