"""Judging tokenizers: every sample through a token file and back, measured, beside classical codecs at the same bytes.

evaluate        runs a system over samples                 run.py
System          what can be judged                         systems.py
Evaluation      rows, summary, JSON and CSV                result.py
write_report    one HTML file                              report.py
compare         two evaluations, against their noise       compare.py
"""
