"""Names to ask for: completed while typing, offered per body region, remembered.

Knows nothing about MRML, Qt or HTTP.
"""

HISTORY = 30
_SUGGESTIONS = 12

PRESETS = {
    "Abdomen": """liver, spleen, left kidney, right kidney, pancreas, gallbladder, stomach,
        aorta, inferior vena cava, portal vein and splenic vein, left adrenal gland,
        right adrenal gland, esophagus""",
    "Chest": "left lung, right lung, heart, aorta, trachea, esophagus, lung nodule",
    "Heart": "left ventricle, right ventricle, left atrium, right atrium, myocardium",
    "Head": """left thalamus, right thalamus, left hippocampus, right hippocampus, left caudate,
        right caudate, left putamen, right putamen, left lateral ventricle,
        right lateral ventricle, brain stem""",
    "Pelvis": "bladder, prostate, uterus, rectum, left femur, right femur, pubic symphysis",
    "Tumours": "brain tumor, enhancing tumor, edema, lung nodule, soft tissue tumor",
}


def known_labels(by_modality):
    """All names that a model knows, in order; () = it takes any words.

    >>> known_labels({"ct": ["spleen", "liver"], "mr": ["liver"]})
    ('liver', 'spleen')
    """
    return tuple(sorted({name for names in by_modality.values() for name in names}))


def presets(known):
    """Body region -> names, without those that the model does not know, and empty regions.

    >>> presets(("liver", "spleen"))
    {'Abdomen': ('liver', 'spleen')}
    """
    regions = {}
    for region, text in PRESETS.items():
        names = tuple(" ".join(name.split()) for name in text.split(","))
        kept = tuple(name for name in names if not known or name in known)
        if kept:
            regions[region] = kept
    return regions


def completions(typed, names, taken=()):
    """Those of `names` that go on from what was typed, best first.

    Names that start so come before those with a word that does; `taken` are not offered again.

    >>> completions("ki", ("liver", "left kidney", "kidney"))
    ('kidney', 'left kidney')
    """
    typed = " ".join(typed.lower().split())
    if not typed:
        return ()
    free = [name for name in names if name not in taken and name.lower() != typed]
    starting = [name for name in free if name.lower().startswith(typed)]
    within = [name for name in free if name not in starting and " " + typed in " " + name.lower()]
    return tuple(starting + within)[:_SUGGESTIONS]


def remembered(history, labels):
    """A history (newest first) after these labels were asked for together.

    >>> remembered(["liver", "spleen"], ("spleen", "aorta"))
    ['spleen', 'aorta', 'liver']
    """
    return [*labels, *(name for name in history if name not in labels)][:HISTORY]


def with_labels(text, labels):
    """The lines of a text field with these labels added, each once.

    >>> with_labels("liver\\n", ("spleen", "liver"))
    'liver\\nspleen'
    """
    lines = [line for line in (" ".join(line.split()) for line in text.splitlines()) if line]
    return "\n".join(dict.fromkeys([*lines, *labels]))
