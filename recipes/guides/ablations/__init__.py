"""The papers' ablations at the scale of a laptop: three seeds each, one line per guide.

    python -m recipes.guides.ablations ROLLOUTS LABELS FOLDER [--processes 2] [--only td,q]

    arms.py     what is trained, and how it is decoded
    run.py      one guide: train, measure, decode
    shown.py    the table, and the picture

ROLLOUTS and LABELS are what `sentiment.sh` collected. Each guide is trained on the same 100 topics
x 12 responses (the shares of data on fewer), asked for its error on the labels, and decoded on 16
topics of the test split, four responses each, at four strengths: guides differ in how far one beta
takes them from the base, so they are compared at equal KL, read off the line between the strengths.
What is finished is not done again. FOLDER/table.md has the means over seeds with standard errors,
FOLDER/frontier.png the reward against KL beside that of best-of-n on the same topics.
"""
