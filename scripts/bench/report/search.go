package report

import "aggregator/scripts/bench/results"

// Search is the table of the texts that books are searched in.
func Search(s results.Search) Table {
	t := Table{Head: []string{
		"books", "index", "first time s", "nothing to do s", "1,000 edited s", "search ms", "min..max", "an edit ms", "index MB",
	}}
	for _, r := range s.Rows {
		index, size := "no", "–"
		if r.Index {
			index, size = "yes", Number(float64(r.Size)/1e6)
		}
		find := make([]float64, len(r.Find))
		for i, seconds := range r.Find {
			find[i] = 1000 * seconds
		}
		summary := results.Summarize(find)
		t.Add(Exact(float64(r.Books)), index, Number(r.Fill), Number(r.Look), Number(r.Again), Number(summary.Median), spread(summary),
			Number(1000*r.Edit), size)
	}
	return t
}
