package doctor

import "time"

// Transactions of tests stand still for no minute.
func init() { idleFor = 100 * time.Millisecond }

var WithoutValues = withoutValues
