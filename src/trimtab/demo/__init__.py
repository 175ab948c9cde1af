"""The demonstration: one small model, one reward, several methods, and what each costs.

    settings    what is asked, how often, how strongly
    running     decodes every arm and keeps completions, rewards and times
    results     numbers with standard errors
    table       the table and two completions for a terminal
    plot        reward against KL
    page        every token tinted by the score of the text so far

Running knows nothing of drawing.
"""
