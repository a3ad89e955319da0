"""Behaviour: how a model answers for patients with a known right answer, and for patients changed on purpose.

The idea of testing capabilities, with expectations about directions, is from Ribeiro MT, Wu T, Guestrin C, Singh S. Beyond
accuracy: behavioral testing of NLP models with CheckList. ACL 2020:4902-4912.
"""
