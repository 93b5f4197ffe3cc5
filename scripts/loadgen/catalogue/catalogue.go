// Package catalogue makes a catalogue of books and the child profiles that read them,
// and fills a database with both.
package catalogue

import "fmt"

// Shape describes a catalogue and its readers completely: two equal values make equal
// rows. All ids count from 1.
type Shape struct {
	Genres   int64   `json:"genres"`
	Topics   int64   `json:"topics"`
	Books    int64   `json:"books"`
	Profiles int64   `json:"profiles"`
	Missing  float64 `json:"missing"` // share of score rows that are left out
	Seed     uint64  `json:"seed"`
}

// Default is the catalogue of a small library.
func Default() Shape {
	return Shape{Genres: 10, Topics: 25, Books: 10_000, Profiles: 10_000, Missing: 0.05, Seed: 1}
}

// Check says what is wrong with the shape.
func (s Shape) Check() error {
	switch {
	case s.Genres < 1, s.Topics < 1, s.Books < 1, s.Profiles < 1:
		return fmt.Errorf("there must be at least one genre, topic, book and profile")
	case !(s.Missing >= 0 && s.Missing <= 1):
		return fmt.Errorf("missing must lie between 0 and 1, not %v", s.Missing)
	}
	return nil
}

// Types are the sixteen personality types.
var Types = [...]string{
	"INTJ", "INTP", "INFJ", "INFP", "ISTJ", "ISTP", "ISFJ", "ISFP",
	"ENTJ", "ENTP", "ENFJ", "ENFP", "ESTJ", "ESTP", "ESFJ", "ESFP",
}

// Book is what a book says of a child who likes it.
type Book struct {
	Genre  int64
	Topics []int64 // one to three, all different
	Type   string  // empty for one book in ten
}

// What a hash is taken of, so that no two choices follow each other.
const (
	ofBook = iota
	ofGenreRow
	ofTopicRow
	ofTypeRow
)

// Book depends on the seed and the book's number only.
func (s Shape) Book(id int64) Book {
	h := s.hash(ofBook, id, 0)
	b := Book{Genre: 1 + int64(h%uint64(s.Genres))}
	first, count := int64(s.hash(ofBook, id, 1)%uint64(s.Topics)), 1+int64(s.hash(ofBook, id, 2)%3)
	// A step of one stays clear of repeats as long as there are enough topics.
	for t := range min(count, s.Topics) {
		b.Topics = append(b.Topics, 1+(first+t)%s.Topics)
	}
	if h := s.hash(ofBook, id, 3); h%10 != 0 {
		b.Type = Types[h/10%uint64(len(Types))]
	}
	return b
}

// HasGenreScore tells whether the score row is there from the start.
func (s Shape) HasGenreScore(profile, genre int64) bool { return s.has(ofGenreRow, profile, genre) }

// HasTopicScore tells whether the score row is there from the start.
func (s Shape) HasTopicScore(profile, topic int64) bool { return s.has(ofTopicRow, profile, topic) }

// HasTypeScore tells whether the row of the eight letters is there from the start.
func (s Shape) HasTypeScore(profile int64) bool { return s.has(ofTypeRow, profile, 0) }

func (s Shape) has(of uint64, profile, id int64) bool {
	return float64(s.hash(of, profile, id)>>11)/(1<<53) >= s.Missing
}

// hash is that of splitmix64, over its arguments one after the other.
func (s Shape) hash(of uint64, a, b int64) uint64 {
	h := mix(s.Seed + 0x9e3779b97f4a7c15)
	h = mix(h ^ (of+1)*0xd1342543de82ef95)
	h = mix(h + uint64(a)*0x9e3779b97f4a7c15)
	return mix(h + uint64(b)*0x9e3779b97f4a7c15)
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
