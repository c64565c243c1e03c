CREATE TABLE public.schema_migrations (version character varying NOT NULL PRIMARY KEY);
CREATE TABLE public.visits (
    id bigserial PRIMARY KEY,
    name character varying,
    created_at timestamp(6) without time zone NOT NULL,
    updated_at timestamp(6) without time zone NOT NULL,
    place character varying
);
CREATE TABLE public.exports (
    id bigserial PRIMARY KEY,
    started_at timestamp without time zone,
    finished_at timestamp without time zone,
    created_at timestamp(6) without time zone NOT NULL,
    updated_at timestamp(6) without time zone NOT NULL
);
CREATE TABLE public.places (
    id bigserial PRIMARY KEY,
    name character varying NOT NULL
);

INSERT INTO public.schema_migrations (version) VALUES ('20231110000000'), ('20241101000000'), ('20241102000000');
