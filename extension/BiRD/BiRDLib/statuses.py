"""What a finding can be in a review, in the words that the server's store uses too.

Knows nothing about who decides, nor where a status is kept.
"""

PROPOSED, ACCEPTED, EDITED, REJECTED = "proposed", "accepted", "edited", "rejected"
ABSENT = "absent"  # asked for and not found: no box, nothing to decide
STATUSES = (PROPOSED, ACCEPTED, EDITED, REJECTED, ABSENT)
KEPT = (ACCEPTED, EDITED)  # what a reviewer stands for
DECIDED = (ACCEPTED, EDITED, REJECTED)

# What the server's store knows of a decision that was made here.
UNTOLD, TOLD, DISPUTED = "untold", "told", "disputed"


def least_score(status, threshold):
    """The score from which a box of such a finding shows; None where none does.

    The threshold is for what nobody has decided yet.

    >>> [least_score(status, 0.5) for status in (PROPOSED, ACCEPTED, REJECTED)]
    [0.5, 0.0, None]
    """
    if status in (REJECTED, ABSENT):
        return None
    return threshold if status == PROPOSED else 0.0
