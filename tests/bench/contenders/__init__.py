"""What is measured, a module for each process.

A module has `TASKS`, name -> class, and `about()`, what the table of the machine says of it. Making a
task sets it up and warms it up; `turn(...)` measures and returns plain values; `close()`, where there
is one, lets go of what it holds.
"""
