"""Whether a launcher of MPI started this process, read from the environment: nothing is loaded."""

from __future__ import annotations

import os

# Which variables hold the number of a process, and how many there are. A batch job of Slurm sets those
# of Slurm for programs that know nothing of MPI, so they count only beside PMIx's.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI
    ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI, srun --mpi=pmi2
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),  # srun --mpi=pmix
)


def started_as() -> tuple[int, int]:
    """The number of this process among those that a launcher of MPI started, and how many they are.

    Without a launcher (0, 1).
    """
    for number, size in LAUNCHERS:
        values = os.environ.get(number, ""), os.environ.get(size, "")
        if all(value.isdecimal() for value in values):
            return int(values[0]), int(values[1])
    return 0, 1


# Of the processes that a launcher started, how many are on this machine
NEIGHBOURS = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")


def neighbours() -> int:
    """How many processes of the launcher share this machine, as far as it says; at least 1."""
    values = (os.environ.get(name, "") for name in NEIGHBOURS)
    return max(1, int(next(filter(str.isdecimal, values), 1)))
