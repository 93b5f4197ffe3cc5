package verdict_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"aggregator/internal/verdict"
)

func TestTag(t *testing.T) {
	sentinel := errors.New("sentinel")
	err := verdict.Tag(sentinel, io.ErrUnexpectedEOF)
	require.EqualError(t, err, "unexpected EOF")
	require.ErrorIs(t, err, sentinel)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, io.EOF)
}
