"""The methods: one file per row of Table 1; `registry` has them all."""
