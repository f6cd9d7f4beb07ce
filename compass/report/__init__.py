"""What was found, for a person to look at: records → tables, plots, sentences, one HTML file. Decides nothing."""
