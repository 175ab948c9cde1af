"""A results folder as a page: figures with their errors, pictures, texts, and how they came about.

    reading     tables, cells and the manifest of a results folder
    texts       responses and scores behind a row of a table
    curves      the rows of one method along its strength; where the judge's score peaks
    budget      best-of-n for the same operations
    sentences   what the figures say, in words
    samples     the same prompt answered by several methods
    tint        tokens on a background of their score
    grids       tables of text
    plots       the pictures: reward against KL, and against cost
    strength    reward and judge along the strength
    looks       colours, markers, and pictures in words
    canvas      a picture as SVG and PNG
    data        all that is shown
    page        one HTML file that needs nothing else
    markdown    the same for a repository
    write       from folder to files

Nothing here decodes: the report is a function of the folder, byte for byte.
"""
