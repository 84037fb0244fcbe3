"""The compute-plane agent of HTC-Grid: pulls chunks from the task queues and runs their tasks on Lambda runtimes."""
