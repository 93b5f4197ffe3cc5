package audit_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"aggregator/internal/audit"
)

func TestBalance(t *testing.T) {
	even := audit.Balance{Processed: 100, Applied: 97, Dead: 8, InFlight: 5, Added: 220, Unprocessed: 20, Read: 200}
	for name, tc := range map[string]struct {
		change               func(*audit.Balance)
		difference, vanished int64
		complaint            string
	}{
		"even":         {func(*audit.Balance) {}, 0, 0, ""},
		"more pushed":  {func(b *audit.Balance) { b.Added, b.Unprocessed = b.Added+7, b.Unprocessed+7 }, 0, 0, ""},
		"more applied": {func(b *audit.Balance) { b.Applied, b.InFlight = b.Applied+7, b.InFlight+7 }, 0, 0, ""},
		"doubled": {
			func(b *audit.Balance) { b.Applied += 3 }, 3, 0,
			"3 too many: 100 applied + 8 dead letters, but 100 entries processed + 5 in flight: some were counted twice",
		},
		"lost": {
			func(b *audit.Balance) { b.Dead -= 2 }, -2, 0,
			"2 lost: 97 applied + 6 dead letters, but 100 entries processed + 5 in flight",
		},
		"removed": {
			func(b *audit.Balance) { b.Unprocessed -= 4 }, 0, 4,
			"4 removed unread: 220 entries were ever added, 16 are left and 200 were read: XDEL, XTRIM or MAXLEN was used",
		},
		"rolled back": {
			func(b *audit.Balance) { b.Added -= 50 }, 0, -50,
			"50 read that Redis does not know of: 170 entries were ever added, 20 are left and 200 were read: the stream was " +
				"recreated or Redis was rolled back",
		},
		"all that can be": {
			func(b *audit.Balance) { b.Applied++; b.Unprocessed-- }, 1, 1,
			"1 too many: 98 applied + 8 dead letters, but 100 entries processed + 5 in flight: some were counted twice; 1 " +
				"removed unread: 220 entries were ever added, 19 are left and 200 were read: XDEL, XTRIM or MAXLEN was used",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := even
			tc.change(&b)
			assert.Equal(t, tc.difference, b.Difference())
			assert.Equal(t, tc.vanished, b.Vanished())
			assert.Equal(t, tc.complaint, b.Complaint())
			assert.Equal(t, tc.complaint == "", b.Even())
		})
	}
}
