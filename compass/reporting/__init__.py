"""Reports of finished runs: records → tables, plots, sentences, one HTML file. Decides nothing."""
