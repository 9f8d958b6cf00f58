"""What a newcomer and a test need: an embedded SFTP server, a sample publisher, and the demo."""
