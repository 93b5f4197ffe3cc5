package verdict

// tagged is an error that is also a sentinel, without the sentinel's text.
type tagged struct {
	error
	sentinel error
}

func (e *tagged) Unwrap() []error { return []error{e.sentinel, e.error} }

// Tag returns an error with the text of err that is both err and the sentinel: errors.Is finds
// either.
func Tag(sentinel, err error) error { return &tagged{err, sentinel} }
