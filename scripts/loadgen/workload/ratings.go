package workload

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Ratings are a file of ratings of books by readers, read as events: lines of
// `User-ID;ISBN;Book-Rating` after a header, as the Book-Crossing data set has them.
//
// A reader is a child profile and an ISBN a book. Both are numbered from 1 in the order
// in which they first appear in a good line, so that ids are dense. A rating of 0
// (interest shown) or 6-10 is a like, one of 1-5 a dislike.
type Ratings struct {
	Profiles, Books int64
	Bad             []string // what is wrong with each line that was left out

	rated []rated
}

type rated struct {
	profile, book int64
	like          bool
}

// ReadRatings reads a file, through gzip when its name ends in .gz. Bad lines are no
// error; a file without a single good line is.
func ReadRatings(path string) (*Ratings, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var in io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if in, err = gzip.NewReader(file); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	ratings, err := parseRatings(in)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if len(ratings.rated) == 0 {
		return nil, fmt.Errorf("%s holds no rating", path)
	}
	return ratings, nil
}

func parseRatings(in io.Reader) (*Ratings, error) {
	var r Ratings
	profiles, books := map[string]int64{}, map[string]int64{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if number == 1 && strings.Contains(line, "User-ID") {
			continue
		}
		reader, isbn, rating, err := parseRating(line)
		if err != nil {
			r.Bad = append(r.Bad, fmt.Sprintf("line %d: %v", number, err))
			continue
		}
		r.rated = append(r.rated, rated{numberOf(profiles, reader), numberOf(books, isbn), rating == 0 || rating > 5})
	}
	r.Profiles, r.Books = int64(len(profiles)), int64(len(books))
	return &r, lines.Err()
}

func numberOf(numbers map[string]int64, name string) int64 {
	n, known := numbers[name]
	if !known {
		n = int64(len(numbers) + 1)
		numbers[strings.Clone(name)] = n
	}
	return n
}

// parseRating takes a line apart. Whatever stands for an ISBN is one: the file has many
// that no publisher gave out.
func parseRating(line string) (reader, isbn string, rating int, err error) {
	fields, err := splitQuoted(line)
	if err != nil {
		return "", "", 0, err
	}
	if len(fields) != 3 {
		return "", "", 0, fmt.Errorf("%d fields, want 3", len(fields))
	}
	if _, err := strconv.ParseUint(fields[0], 10, 63); err != nil {
		return "", "", 0, fmt.Errorf("reader %q is not a number", fields[0])
	}
	if fields[1] == "" {
		return "", "", 0, fmt.Errorf("no ISBN")
	}
	rating, err = strconv.Atoi(fields[2])
	if err != nil || rating < 0 || rating > 10 {
		return "", "", 0, fmt.Errorf("rating %q is not a number from 0 to 10", fields[2])
	}
	return fields[0], fields[1], rating, nil
}

// splitQuoted splits at semicolons. A field may be in double quotes; inside these a
// semicolon is text and a doubled quote stands for one.
func splitQuoted(line string) ([]string, error) {
	var fields []string
	for {
		if !strings.HasPrefix(line, `"`) {
			field, rest, more := strings.Cut(line, ";")
			fields = append(fields, field)
			if !more {
				return fields, nil
			}
			line = rest
			continue
		}
		field, rest, err := cutQuoted(line[1:])
		if err != nil {
			return nil, err
		}
		fields = append(fields, field)
		switch {
		case rest == "":
			return fields, nil
		case rest[0] != ';':
			return nil, fmt.Errorf("text after a closing quote")
		}
		line = rest[1:]
	}
}

// cutQuoted reads up to the closing quote.
func cutQuoted(s string) (field, rest string, err error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `"`)
		b.WriteString(before)
		switch {
		case !found:
			return "", "", fmt.Errorf("no closing quote")
		case !strings.HasPrefix(after, `"`):
			return b.String(), after, nil
		}
		b.WriteByte('"')
		s = after[1:]
	}
}

// Len is the number of good lines.
func (r *Ratings) Len() int64 { return int64(len(r.rated)) }

// events are the first s.Count ratings (0: all) as Source.
func (r *Ratings) events(s Settings) Source {
	count := r.Len()
	if s.Count > 0 {
		count = min(count, s.Count)
	}
	return replay{r, s, count}
}

type replay struct {
	ratings  *Ratings
	settings Settings
	count    int64
}

func (r replay) Len() int64 { return r.count }

func (r replay) At(index int64) Event {
	rating := r.ratings.rated[index]
	return Event{
		Profile: rating.profile, Book: rating.book, Like: rating.like,
		Partition: int(rating.profile % int64(r.settings.Partitions)),
		asFields:  r.settings.Wire == WireFields,
	}
}
