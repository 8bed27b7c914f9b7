"""What every app may import. It imports no app (commands know who acts: `audit.log.actor`)."""
