"""The doctor: looks at a whole store and says what is wrong with it, and repairs what it is told to.

It sees stores by their ports alone and needs no coordinator. One file for each kind of question; memory stays bounded
whatever the store holds.
"""
