"""What a run would take and what it lacks, judged before it begins."""
