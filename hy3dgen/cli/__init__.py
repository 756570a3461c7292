"""What the scripts share: options, progress, exit codes; doctor, weights and report. The only room that prints."""
