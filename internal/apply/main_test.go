package apply

import (
	"testing"

	"aggregator/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
