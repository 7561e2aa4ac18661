-- Filter keys of the access method ann: scalar columns behind the vector. Support function 2 of an operator class
-- gives numbers in the order of the values, different ones for different values; 3 such that may fall together; 4 is
-- an extended hash, with which only equality can be asked. An operator class needs one of them.

CREATE FUNCTION ann_order(boolean) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_bool';
CREATE FUNCTION ann_order(smallint) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int2';
CREATE FUNCTION ann_order(integer) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int4';
CREATE FUNCTION ann_order(bigint) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int8';
CREATE FUNCTION ann_order(oid) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_oid';
CREATE FUNCTION ann_order(date) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int4';
CREATE FUNCTION ann_order(time) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int8';
CREATE FUNCTION ann_order(timestamp) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int8';
CREATE FUNCTION ann_order(timestamptz) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int8';
CREATE FUNCTION ann_order(money) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_int8';
CREATE FUNCTION ann_order(real) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_float4';
CREATE FUNCTION ann_order(double precision) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_float8';
CREATE FUNCTION ann_order(numeric) RETURNS bigint LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'pg_answer_ann_order_numeric';

CREATE OPERATOR FAMILY integer_ops USING ann;
CREATE OPERATOR FAMILY float_ops USING ann;

DO $$
DECLARE
	class record;
	cross_type record;
BEGIN
	FOR class IN SELECT * FROM (VALUES
		('int2', 'integer_ops', 2), ('int4', 'integer_ops', 2), ('int8', 'integer_ops', 2),
		('float4', 'float_ops', 2), ('float8', 'float_ops', 2),
		('bool', NULL, 2), ('oid', NULL, 2), ('date', NULL, 2), ('time', NULL, 2),
		('timestamp', NULL, 2), ('timestamptz', NULL, 2), ('money', NULL, 2), ('numeric', NULL, 3)) AS c(type, family, support)
	LOOP
		EXECUTE format('CREATE OPERATOR CLASS %1$I DEFAULT FOR TYPE %2$I USING ann %3$s AS
			OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION %4$s ann_order(%2$I)',
			class.type || '_ops', class.type, 'FAMILY ' || class.family, class.support);
	END LOOP;
	-- Comparisons of a smallint with a bigint and the like.
	FOR cross_type IN
		SELECT f.opfname, o.amopstrategy, o.amopopr::regoperator AS operator
		FROM pg_opfamily f JOIN pg_amop o ON o.amopfamily = f.oid JOIN pg_am m ON m.oid = f.opfmethod
		WHERE m.amname = 'btree' AND f.opfname IN ('integer_ops', 'float_ops')
			AND f.opfnamespace = 'pg_catalog'::regnamespace AND o.amoplefttype <> o.amoprighttype
	LOOP
		EXECUTE format('ALTER OPERATOR FAMILY %I USING ann ADD OPERATOR %s %s',
			cross_type.opfname, cross_type.amopstrategy, cross_type.operator);
	END LOOP;
	FOR class IN SELECT * FROM (VALUES
		('text', 'hashtextextended'), ('bpchar', 'hashbpcharextended'), ('name', 'hashnameextended'),
		('"char"', 'hashcharextended'), ('uuid', 'uuid_hash_extended'), ('inet', 'hashinetextended'),
		('macaddr', 'hashmacaddrextended'), ('timetz', 'timetz_hash_extended'),
		('interval', 'interval_hash_extended'), ('jsonb', 'jsonb_hash_extended'), ('anyenum', 'hashenumextended'),
		('anyarray', 'hash_array_extended'), ('anyrange', 'hash_range_extended'),
		('anymultirange', 'hash_multirange_extended'), ('macaddr8', 'hashmacaddr8extended'),
		('pg_lsn', 'pg_lsn_hash_extended'), ('xid8', 'hashint8extended'),
		-- These have no bits beyond what makes them equal.
		('bytea', 'hashvarlenaextended'), ('bit', 'hashvarlenaextended'), ('varbit', 'hashvarlenaextended')) AS c(type, function)
	LOOP
		EXECUTE format('CREATE OPERATOR CLASS %I DEFAULT FOR TYPE %s USING ann AS OPERATOR 3 =, FUNCTION 4 %s(%s, bigint)',
			btrim(class.type, '"') || '_ops', class.type, class.function,
			CASE class.function WHEN 'hashvarlenaextended' THEN 'internal' WHEN 'hashint8extended' THEN 'bigint' ELSE class.type END);
	END LOOP;
END $$;
