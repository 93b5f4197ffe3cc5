package workload

import (
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const ratingsFile = "User-ID;ISBN;Book-Rating\n" +
	"276725;034545104X;0\r\n" +
	"276726;155061224;5\n" +
	"276725;155061224;6\n" +
	"\"11676\";\"\\0432534220\\\"\"\"\"\";\"10\"\n" + // as the source has them
	"12;\"a;b\";1\n" +
	"\n" +
	"x;1;1\n" +
	"1;;1\n" +
	"1;2;11\n" +
	"1;2\n" +
	"1;\"2;3\n" +
	"1;\"2\"3;4\n" +
	"-1;2;3\n" +
	"12;9,78292E+12;0"

func TestRatingsAreReadAsEvents(t *testing.T) {
	r, err := parseRatings(strings.NewReader(ratingsFile))
	require.NoError(t, err)
	require.Equal(t, []rated{
		{1, 1, true}, {2, 2, false}, {1, 2, true}, {3, 3, true}, {4, 4, false}, {4, 5, true},
	}, r.rated)
	require.Equal(t, int64(4), r.Profiles)
	require.Equal(t, int64(5), r.Books)
	require.Len(t, r.Bad, 8)
	require.Equal(t, "line 7: 1 fields, want 3", r.Bad[0])
}

func TestRatingsFiles(t *testing.T) {
	folder := t.TempDir()
	plain, packed, empty := filepath.Join(folder, "r.csv"), filepath.Join(folder, "r.csv.gz"),
		filepath.Join(folder, "empty.csv")
	require.NoError(t, os.WriteFile(plain, []byte(ratingsFile), 0o600))
	require.NoError(t, os.WriteFile(empty, []byte("User-ID;ISBN;Book-Rating\n"), 0o600))
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(ratingsFile))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile(packed, []byte(b.String()), 0o600))

	for _, path := range []string{plain, packed} {
		s := Defaults()
		s.Replay, s.Partitions = path, 2
		source := open(t, s)
		require.Equal(t, int64(6), source.Len())
		require.Equal(t, Event{Profile: 3, Book: 3, Like: true, Partition: 1}, source.At(3))
		s.Count = 2
		require.Equal(t, int64(2), open(t, s).Len())
	}
	_, err = ReadRatings(empty)
	require.ErrorContains(t, err, "holds no rating")
}
