"""`shmcache snapshot`: snapshots of an instance, made, looked at, checked and gone back to.

    command.py     the commands
    checking.py    what a data folder holds, what leads to what, and whether it is sound
    restoring.py   preparing the folder of a stopped instance for an earlier state
"""
