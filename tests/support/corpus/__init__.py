"""A labelled corpus for the validator of unit tests: results that are good, and results that are bad by construction.

modules    which modules of which releases on PyPI, and their own tests: the good results
sources    brings a release here and lays out the project as it was before its module was tested
results    what a good result is, and the change set that a kind makes of it
kinds      every kind of bad result, and how it is made by program from a good one
"""
