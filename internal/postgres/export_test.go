package postgres

// ApplyOnCitus is for tests.
var ApplyOnCitus = applyOnCitus
