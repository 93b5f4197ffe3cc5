package postgres

import "time"

// ClockSlack is how far clocks may be apart. A time further in the future than that is of a clock
// that was ahead when it was recorded.
const ClockSlack = time.Minute
