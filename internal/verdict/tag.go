package verdict

// tagged is an error that is a sentinel too, without its text.
type tagged struct {
	error
	sentinel error
}

func (e *tagged) Unwrap() []error { return []error{e.sentinel, e.error} }

// Tag returns an error with the text of err that is both err and the sentinel: errors.Is finds
// either.
func Tag(sentinel, err error) error { return &tagged{err, sentinel} }
