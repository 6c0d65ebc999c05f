"""The benchmarks: each times one part of the lab against another way on this machine. They read no runs and judge no claims."""
