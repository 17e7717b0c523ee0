"""Evaluation of codecs: encoders and decoders over recordings, measures, judges, tables and a report."""
