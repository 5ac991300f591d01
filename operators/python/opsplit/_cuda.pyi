gpu: object  # for opsplit._core
