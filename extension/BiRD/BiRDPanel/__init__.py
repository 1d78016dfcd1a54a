"""The panel's sections, one file per tab. They know Qt; what they do is in BiRDLib."""
