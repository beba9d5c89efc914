"""Comparisons of methods: suites, cells, executors, store, statistics, report."""
