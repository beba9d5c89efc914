"""Diff-Unfolding: E[x0 | x_t, y] by an unrolled scheme that meets the operator in its data steps only.

``stages`` the scheme, ``data_steps`` where the operator enters, ``network`` the learned parts, ``trained`` and
``unfolded`` the priors by name.
"""
