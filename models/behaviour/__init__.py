"""Behaviour: what a model has to answer for patients that clinicians agree about, and for patients changed on purpose.

The idea of tests by capability, with expectations about directions, is that of Ribeiro MT, Wu T, Guestrin C, Singh S. Beyond
accuracy: behavioral testing of NLP models with CheckList. ACL 2020:4902-4912.
"""
