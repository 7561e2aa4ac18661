-- The access method ann: approximate nearest neighbours.

CREATE FUNCTION ann_handler(internal) RETURNS index_am_handler
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'pg_answer_ann_handler';

CREATE ACCESS METHOD ann TYPE INDEX HANDLER ann_handler;
COMMENT ON ACCESS METHOD ann IS 'approximate nearest neighbours of vectors';

CREATE FUNCTION ann_stats(regclass) RETURNS jsonb
	LANGUAGE c VOLATILE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_stats';
COMMENT ON FUNCTION ann_stats(regclass) IS 'rows, lists and pages of an index of method ann';

CREATE FUNCTION ann_check(index regclass, heap boolean DEFAULT false) RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_check';
COMMENT ON FUNCTION ann_check(regclass, boolean) IS 'checks every page of an index of method ann, and with heap every row of its table; the number of its rows, or an ERROR that says what is damaged';
-- It reads what is not a caller's to read, and keeps writers waiting.
REVOKE EXECUTE ON FUNCTION ann_check(regclass, boolean) FROM PUBLIC;

-- Support function 1 of an operator class: its distance and the type of its elements, as a number.

CREATE FUNCTION ann_vector_l2() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_vector_l2';

CREATE FUNCTION ann_vector_ip() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_vector_ip';

CREATE FUNCTION ann_vector_cosine() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_vector_cosine';

CREATE FUNCTION ann_vector_l1() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_vector_l1';

CREATE FUNCTION ann_halfvec_l2() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_halfvec_l2';

CREATE FUNCTION ann_halfvec_ip() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_halfvec_ip';

CREATE FUNCTION ann_halfvec_cosine() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_halfvec_cosine';

CREATE FUNCTION ann_halfvec_l1() RETURNS integer
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_halfvec_l1';

CREATE OPERATOR CLASS vector_l2_ops DEFAULT FOR TYPE vector USING ann AS
	OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 ann_vector_l2();

CREATE OPERATOR CLASS vector_ip_ops FOR TYPE vector USING ann AS
	OPERATOR 1 <#> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 ann_vector_ip();

CREATE OPERATOR CLASS vector_cosine_ops FOR TYPE vector USING ann AS
	OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 ann_vector_cosine();

CREATE OPERATOR CLASS vector_l1_ops FOR TYPE vector USING ann AS
	OPERATOR 1 <+> (vector, vector) FOR ORDER BY float_ops,
	FUNCTION 1 ann_vector_l1();

CREATE OPERATOR CLASS halfvec_l2_ops DEFAULT FOR TYPE halfvec USING ann AS
	OPERATOR 1 <-> (halfvec, halfvec) FOR ORDER BY float_ops,
	FUNCTION 1 ann_halfvec_l2();

CREATE OPERATOR CLASS halfvec_ip_ops FOR TYPE halfvec USING ann AS
	OPERATOR 1 <#> (halfvec, halfvec) FOR ORDER BY float_ops,
	FUNCTION 1 ann_halfvec_ip();

CREATE OPERATOR CLASS halfvec_cosine_ops FOR TYPE halfvec USING ann AS
	OPERATOR 1 <=> (halfvec, halfvec) FOR ORDER BY float_ops,
	FUNCTION 1 ann_halfvec_cosine();

CREATE OPERATOR CLASS halfvec_l1_ops FOR TYPE halfvec USING ann AS
	OPERATOR 1 <+> (halfvec, halfvec) FOR ORDER BY float_ops,
	FUNCTION 1 ann_halfvec_l1();
