"""The command line: one file per verb, thin. A verb's file is imported when that verb is called, not before."""
