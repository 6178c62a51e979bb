/* The rows of one chunk, at most CHUNK, for the kind of processor that the macros of `nearest.c` name. */

static TARGET void NAME(const float *x, int64_t rows, int64_t width, const float *codes, const float *offset, int64_t panels,
                        int64_t *index, float *best, float *second)
{
    float most[CHUNK][PANEL], next[CHUNK][PANEL];
    int32_t where[CHUNK][PANEL];
    for (int64_t row = 0; row < CHUNK; row++)
        for (int lane = 0; lane < PANEL; lane++) {
            most[row][lane] = next[row][lane] = LEAST;
            where[row][lane] = 0;
        }

    int64_t span = SPAN_COLUMNS / width > 1 ? SPAN_COLUMNS / width : 1;
    int64_t together = PANEL_BYTES / (PANEL * (int64_t)sizeof(float) * width * span);
    together = (together > 0 ? together : 1) * span;
    for (int64_t first = 0; first < panels; first += together) {
        int64_t behind = first + together < panels ? first + together : panels;
        for (int64_t row = 0; row < rows; row += ROWS) {
            const float *in[ROWS];
            for (int r = 0; r < ROWS; r++)
                in[r] = x + (row + r < rows ? row + r : rows - 1) * width; /* beyond the end the last row again, for nobody */
            for (int half = 0; half < PANEL; half += 2 * LANES) {
                FLOATS runner[ROWS][2];
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < 2; v++)
                        runner[r][v] = LOAD(&next[row + r][half + v * LANES]);
                for (int64_t start = first; start < behind; start += span) {
                    int64_t stop = start + span < behind ? start + span : behind;
                    FLOATS top[ROWS][2];
                    for (int r = 0; r < ROWS; r++)
                        top[r][0] = top[r][1] = ALL(LEAST);
                    for (int64_t panel = start; panel < stop; panel++) {
                        const float *code = codes + panel * width * PANEL + half;
                        FLOATS score[ROWS][2];
                        for (int r = 0; r < ROWS; r++)
                            for (int v = 0; v < 2; v++)
                                score[r][v] = LOAD(offset + panel * PANEL + half + v * LANES);
                        for (int64_t column = 0; column < width; column++, code += PANEL) {
                            FLOATS low = LOAD(code), high = LOAD(code + LANES);
                            for (int r = 0; r < ROWS; r++) {
                                FLOATS value = ALL(in[r][column]);
                                score[r][0] = MULTIPLY_ADD(value, low, score[r][0]);
                                score[r][1] = MULTIPLY_ADD(value, high, score[r][1]);
                            }
                        }
                        for (int r = 0; r < ROWS; r++)
                            for (int v = 0; v < 2; v++) {
                                runner[r][v] = LARGER(runner[r][v], SMALLER(top[r][v], score[r][v]));
                                top[r][v] = LARGER(top[r][v], score[r][v]);
                            }
                    }
                    INTEGERS number = ALL_INTEGERS((int32_t)start);
                    for (int r = 0; r < ROWS; r++)
                        for (int v = 0; v < 2; v++) {
                            float *before = &most[row + r][half + v * LANES];
                            int32_t *place = &where[row + r][half + v * LANES];
                            FLOATS most_before = LOAD(before);
                            runner[r][v] = LARGER(runner[r][v], SMALLER(most_before, top[r][v]));
                            STORE_INTEGERS(place, WHERE_ABOVE(top[r][v], most_before, number, LOAD_INTEGERS(place)));
                            STORE(before, LARGER(most_before, top[r][v]));
                        }
                }
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < 2; v++)
                        STORE(&next[row + r][half + v * LANES], runner[r][v]);
            }
        }
    }

    for (int64_t row = 0; row < rows; row++) {
        float one = LEAST, two = LEAST;
        for (int lane = 0; lane < PANEL; lane++) {
            float value = most[row][lane];
            two = value > one ? one : value > two ? value : two;
            one = value > one ? value : one;
            two = next[row][lane] > two ? next[row][lane] : two;
        }
        best[row] = one;
        second[row] = two;
        /* The panel within the span: the same sums again, for the lanes that hold the largest. */
        int64_t code = INT64_MAX;
        float largest = LEAST;
        for (int lane = 0; lane < PANEL; lane++) {
            if (most[row][lane] < one)
                continue;
            int64_t stop = where[row][lane] + span < panels ? where[row][lane] + span : panels;
            for (int64_t panel = where[row][lane]; panel < stop; panel++) {
                const float *column = codes + panel * width * PANEL + lane;
                float score = offset[panel * PANEL + lane];
                for (int64_t at = 0; at < width; at++)
                    score = __builtin_fmaf(x[row * width + at], column[at * PANEL], score);
                int64_t number = panel * PANEL + lane;
                if (score > largest || (score == largest && number < code)) {
                    largest = score;
                    code = number;
                }
            }
        }
        index[row] = code == INT64_MAX ? 0 : code;
    }
}

#undef NAME
#undef TARGET
#undef LANES
#undef FLOATS
#undef INTEGERS
#undef LOAD
#undef STORE
#undef LOAD_INTEGERS
#undef STORE_INTEGERS
#undef ALL
#undef ALL_INTEGERS
#undef MULTIPLY_ADD
#undef LARGER
#undef SMALLER
#undef WHERE_ABOVE
