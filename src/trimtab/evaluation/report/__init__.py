"""A results folder as a page: figures with their errors, pictures, texts, and how they came about.

    reading     tables, conditions, texts and scores of a results folder
    strengths   the rows of one method along its strength; where the judge's score peaks
    sentences   what the figures say, in words
    tables      tables of text
    samples     the same prompts answered by several methods
    drawing     a picture as SVG and PNG
    figures     the pictures
    write       all that is shown, and the files

Nothing here decodes: the report is a function of the folder, byte for byte.
"""
